"""What is read from the warehouse: metrics over the marts."""
