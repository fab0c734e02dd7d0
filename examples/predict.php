<?php
// Predicts one flower, then a batch, or the rows in FILE: php predict.php [FILE], PHP 8.2 or newer.
declare(strict_types=1);

const FEATURES = ['sepal_length', 'sepal_width', 'petal_length', 'petal_width'];

function fail(string $message): never
{
    fwrite(STDERR, "$message\n");
    exit(1);
}

/** The lines to print for a problem document (RFC 9457). */
function explain(int $status, mixed $problem): string
{
    if (!isset($problem['title'])) {
        return "Status $status, but not from the service: is IRIS_URL right?";
    }
    $lines = ["$status $problem[title]: $problem[detail]"];
    if ($status === 401) {
        $lines[] = 'The service does not accept the key in IRIS_API_KEY.';
    }
    foreach ($problem['errors'] ?? [] as $error) {
        $row = isset($error['row']) ? "row $error[row]" : null;
        $where = array_filter([$row, $error['field'] ?? null], is_string(...));
        $lines[] = '  ' . implode(': ', [...$where, $error['message']]);
    }
    return implode("\n", $lines);
}

/** Prints label and confidence of each row. An error ends the program. */
function predict(CurlHandle $curl, string $key, int $seconds, string $body): void
{
    $id = bin2hex(random_bytes(16));
    curl_setopt($curl, CURLOPT_POSTFIELDS, $body);
    curl_setopt($curl, CURLOPT_HTTPHEADER, [
        "X-API-Key: $key", 'Content-Type: application/json', "X-Request-ID: $id",
    ]);
    // A prediction changes nothing, so its POST is safe to repeat: without an answer, and after 429
    // and 503, once the time in Retry-After has passed. Any other answer is final.
    for ($attempt = 1; ; $attempt++) {
        $body = curl_exec($curl);
        $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
        if ($attempt === 3 || $body !== false && !in_array($status, [429, 503], true)) {
            break;
        }
        sleep(min(curl_getinfo($curl, CURLINFO_RETRY_AFTER) ?: $attempt, $seconds));
    }
    if ($body === false) {
        fail('No answer: ' . curl_error($curl) . "\nrequest id $id");
    }
    $answer = json_decode($body, true); // Null for the error page of a proxy, for example.
    if ($status !== 200 || !isset($answer['model_version'])) {
        fail(explain($status, $answer) . "\nrequest id $id");
    }
    foreach ($answer['predictions'] ?? [$answer] as $row) {
        printf("%s %.4F\n", $row['prediction'], $row['confidence']);
    }
}

$key = getenv('IRIS_API_KEY') ?: fail('Set IRIS_API_KEY.');
$seconds = (int) (getenv('IRIS_TIMEOUT') ?: 10);
$curl = curl_init(rtrim(getenv('IRIS_URL') ?: 'http://127.0.0.1:8000', '/') . '/v1/predict');
curl_setopt_array($curl, [ // One handle for all requests, so that they share a connection.
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
