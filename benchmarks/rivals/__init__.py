"""The servers that the service is measured against, each written as its users would write it."""
