"""What turns an architecture and a budget into a measurement."""
