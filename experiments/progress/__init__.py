"""What a run says while it works, and where that is shown."""
