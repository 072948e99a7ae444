"""The worker: deliveries in, calls run, defers and returns out (DESIGN.md section 4)."""
