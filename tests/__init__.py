"""The tests of the parts."""
