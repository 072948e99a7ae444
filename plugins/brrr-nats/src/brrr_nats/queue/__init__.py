"""The queue role on JetStream."""
