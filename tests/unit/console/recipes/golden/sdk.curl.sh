curl https://gateway.example.com/api/v1/messages \
  -H "Authorization: Bearer $MODELGATES_API_KEY" \
  -H 'anthropic-version: 2023-06-01' \
  -H 'content-type: application/json' \
  -d '{"model": "claude-sonnet-5", "max_tokens": 1000, "messages": [{"role": "user", "content": "Say hello."}]}'
