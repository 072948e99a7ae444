"""How brrr's backends on AWS sign in, call and fail: what brrr-dynamo shares with others."""
