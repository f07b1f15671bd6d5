"""Side-by-side measurements; each writes a JSON result."""
