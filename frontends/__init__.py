"""janode: exact gradients of ODE solutions, with one core for every array library."""
