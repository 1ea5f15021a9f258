"""What machines can do: devices, and work over cases."""
