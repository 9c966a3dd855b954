"""What must survive: operations on requests, and the database behind them."""
