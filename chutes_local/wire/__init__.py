"""What goes over the socket: error bodies, chunks, sealed bytes, and the door itself."""
