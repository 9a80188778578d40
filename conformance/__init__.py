"""The suite that proves on the user's machine that all libraries give the same numbers."""
