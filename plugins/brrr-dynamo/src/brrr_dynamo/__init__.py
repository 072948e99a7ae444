"""Store and cache of brrr on DynamoDB."""
