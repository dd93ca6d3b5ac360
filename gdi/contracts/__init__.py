"""What rooms say to each other: each message is one type here, validated once at the edge."""
