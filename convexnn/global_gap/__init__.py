"""How far a fit can be from the global optimum of training: dual bounds, and column generation that closes them."""
