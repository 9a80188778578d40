"""All numerics of janode, written once for every array library; imports none."""
