"""What comes before a run: a recipe for images, and what it will take."""
