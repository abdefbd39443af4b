"""What is registered with Prefect's server, from one description: work pools, deployments, automations, limits."""
