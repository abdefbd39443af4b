"""What a growing corpus costs: shards embedded anew after each kind of change, and planning at scale."""
