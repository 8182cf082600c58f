"""One function per finding: each reads the scene and yields what it sees."""
