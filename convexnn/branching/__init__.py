"""Branch and bound on the signs of the units: complete certification on top of any relaxation."""
