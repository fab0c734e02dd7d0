<?php
// One prediction and then a batch, or what FILE has: php predict.php [FILE], from PHP 8.2 on.
declare(strict_types=1);

const FEATURES = ['sepal_length', 'sepal_width', 'petal_length', 'petal_width'];

function fail(string $message): never
{
    fwrite(STDERR, "$message\n");
    exit(1);
}

/** A problem document (RFC 9457) in words. */
function explain(int $status, mixed $told): string
{
    if (!isset($told['title'])) {
        return "Status $status, but not from the service: is IRIS_URL right?";
    }
    $lines = ["$status $told[title]: $told[detail]"];
    if ($status === 401) {
        $lines[] = 'The service does not accept the key in IRIS_API_KEY.';
    }
    foreach ($told['errors'] ?? [] as $error) {
        $row = isset($error['row']) ? "row $error[row]" : null;
        $where = array_filter([$row, $error['field'] ?? null], is_string(...));
        $lines[] = '  ' . implode(': ', [...$where, $error['message']]);
    }
    return implode("\n", $lines);
}

/** Prints label and confidence of each row. What goes wrong ends the program. */
function predict(CurlHandle $curl, string $key, int $seconds, string $body): void
{
    $id = bin2hex(random_bytes(16));
    curl_setopt($curl, CURLOPT_POSTFIELDS, $body);
    curl_setopt($curl, CURLOPT_HTTPHEADER, [
        "X-API-Key: $key", 'Content-Type: application/json', "X-Request-ID: $id",
    ]);
    // A prediction changes nothing, so a POST may be repeated: when no answer came, and after 429
    // and 503, as late as Retry-After asks. Any other answer is final.
    for ($attempt = 1; ; $attempt++) {
        $answer = curl_exec($curl);
        $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
        if ($attempt === 3 || $answer !== false && !in_array($status, [429, 503], true)) {
            break;
        }
        sleep(min(curl_getinfo($curl, CURLINFO_RETRY_AFTER) ?: $attempt, $seconds));
    }
    if ($answer === false) {
        fail('No answer: ' . curl_error($curl) . "\nrequest id $id");
    }
    $told = json_decode($answer, true); // Null for the page of a proxy, say.
    if ($status !== 200 || !isset($told['model_version'])) {
        fail(explain($status, $told) . "\nrequest id $id");
    }
    foreach ($told['predictions'] ?? [$told] as $row) {
        printf("%s %.4F\n", $row['prediction'], $row['confidence']);
    }
}

$key = getenv('IRIS_API_KEY') ?: fail('Set IRIS_API_KEY.');
$seconds = (int) (getenv('IRIS_TIMEOUT') ?: 10);
$curl = curl_init(rtrim(getenv('IRIS_URL') ?: 'http://127.0.0.1:8000', '/') . '/v1/predict');
curl_setopt_array($curl, [ // One handle for all requests keeps the connection between them.
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_CONNECTTIMEOUT => 3,
    CURLOPT_TIMEOUT => $seconds,
]);
if (isset($argv[1])) {
    $body = @file_get_contents($argv[1]);
    predict($curl, $key, $seconds, $body === false ? fail("Can't read $argv[1].") : $body);
} else {
    $one = array_combine(FEATURES, [6.7, 3.0, 5.2, 2.3]);
    $two = array_combine(FEATURES, [6.0, 2.7, 5.1, 1.6]);
    predict($curl, $key, $seconds, json_encode($one));
    predict($curl, $key, $seconds, json_encode([$one, $two]));
}
