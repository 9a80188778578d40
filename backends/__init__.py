"""One file per array library: what the core asks of it, and no formula."""
