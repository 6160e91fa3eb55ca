"""What a program and the service said to each other, kept in a file and read again."""
