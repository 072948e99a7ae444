"""How brrr's backends on AWS sign in, call and fail: what brrr-dynamo and brrr-sqs share."""
