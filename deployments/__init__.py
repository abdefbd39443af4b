"""How FisherSFT is deployed with Prefect: what is registered, how it runs, what watches over it."""
