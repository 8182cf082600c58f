"""`Monitor`: what decay really does while a model trains; `History`: what was seen, as a value."""
