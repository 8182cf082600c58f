"""Values: what pulls which parameter, toward where, how hard, and why."""
