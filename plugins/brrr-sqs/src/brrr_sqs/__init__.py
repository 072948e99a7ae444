"""brrr's queue on Amazon SQS."""
