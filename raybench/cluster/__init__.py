"""The one door to Ray: start or attach, gangs of workers, and what goes wrong with them."""
