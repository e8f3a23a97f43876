"""What `make` runs: building the book, exporting its notebooks, making the embedded data."""
