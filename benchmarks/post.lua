-- wrk script: POST the file named in BODY with the key in KEY, and print the results as JSON.
-- PACE is the mean of an exponential pause before each request, in milliseconds (0: no pause).
local file = io.open(os.getenv("BODY"), "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = "application/json"
wrk.headers["X-API-Key"] = os.getenv("KEY")
if os.getenv("CLOSE") == "1" then wrk.headers["Connection"] = "close" end

local pace = tonumber(os.getenv("PACE") or "0")
if pace > 0 then
  function delay() return math.floor(-math.log(1 - math.random()) * pace + 0.5) end
end

function done(summary, latency)
  local errors = summary.errors
  io.stderr:write(string.format(
    '{"requests":%d,"seconds":%.6f,"failed":%d,"p50":%d,"p99":%d,"p999":%d}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
