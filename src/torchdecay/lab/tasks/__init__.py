"""Tasks that ship, one file each, and the way to bring your own."""
