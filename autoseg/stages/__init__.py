"""The method, one stage a room; a stage imports only stages upstream of it."""
