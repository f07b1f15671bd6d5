"""How a network grows: compound scaling, the α β γ grid, families."""
