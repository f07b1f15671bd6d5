"""Ways to get jobs done."""
