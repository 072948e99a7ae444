"""brrr on DynamoDB: store and cache."""
