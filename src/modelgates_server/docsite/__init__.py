"""The documents of docs/ as pages with a search, and the MCP server that lets an AI client read them."""
