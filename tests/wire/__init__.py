"""What is between the socket and the methods."""
