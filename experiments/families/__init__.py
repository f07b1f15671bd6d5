"""What is done with trained members: predictions, activation maps, exports, checks."""
