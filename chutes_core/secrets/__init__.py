"""Keys and headers, which never show: wrapped, masked in whatever form they come back, kept out of tracebacks."""
