"""Queue of brrr on Amazon SQS."""
