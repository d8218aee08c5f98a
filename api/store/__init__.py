"""Records: whose an object is, what it should be, and what is being done to it."""
