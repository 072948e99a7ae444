"""What the tests of the engine and the application share."""
