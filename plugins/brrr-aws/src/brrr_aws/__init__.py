"""Client of AWS services for brrr's backends: credentials, retries, errors and metering."""
