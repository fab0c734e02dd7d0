// Predicts one flower, then a batch, or the rows in FILE: java Predict.java [FILE], Java 17 or newer.
import static java.util.concurrent.TimeUnit.SECONDS;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.UUID;
import java.util.concurrent.CompletionException;
import java.util.regex.Pattern;

public class Predict {
    static final String URL = env("IRIS_URL", "http://127.0.0.1:8000").replaceAll("/+$", "");
    static final String KEY = env("IRIS_API_KEY", "");
    static final long TIMEOUT = Long.parseLong(env("IRIS_TIMEOUT", "10"));
    static final String ONE = """
        {"sepal_length": 6.7, "sepal_width": 3.0, "petal_length": 5.2, "petal_width": 2.3}""";
    static final String TWO = """
        {"sepal_length": 6.0, "sepal_width": 2.7, "petal_length": 5.1, "petal_width": 1.6}""";

    // The JDK has no JSON parser: in a project use Jackson or Gson. These patterns find what is printed
    // below in the answers of this service, which have no spaces and members in this order.
    static final String TEXT = "\"([^\"\\\\]*+(?:\\\\.[^\"\\\\]*+)*+)\"";
    static final Pattern PREDICTION = Pattern.compile(
        "\"prediction\":" + TEXT + ",\"confidence\":([-+.\\deE]+)");
    static final Pattern PROBLEM = Pattern.compile(
        "\"title\":" + TEXT + ",\"status\":\\d+,\"detail\":" + TEXT);
    static final Pattern ERROR = Pattern.compile(
        "\\{(?:\"row\":(\\d+),)?(?:\"field\":" + TEXT + ",)?\"message\":" + TEXT);

    /** Reuses the connection, and follows no redirect: the key must not go to another host. */
    static final HttpClient CLIENT = HttpClient.newBuilder()
        .version(HttpClient.Version.HTTP_1_1)
        .connectTimeout(Duration.ofSeconds(3))
        .build();

    /**
     * A prediction changes nothing, so its POST is safe to repeat: without an answer, and after 429
     * and 503, once the time in Retry-After has passed. Any other answer is final.
     */
    static HttpResponse<String> ask(String body, String id) throws InterruptedException {
        var request = HttpRequest.newBuilder(URI.create(URL + "/v1/predict"))
            .header("X-API-Key", KEY)
            .header("Content-Type", "application/json")
            .header("X-Request-ID", id)
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        for (int attempt = 1; ; attempt++) {
            long pause = attempt;
            var future = CLIENT.sendAsync(request, HttpResponse.BodyHandlers.ofString());
            try { // This timeout is for the whole answer; a request's own may end with the answer's head.
                var answer = future.copy().orTimeout(TIMEOUT, SECONDS).join();
                if (attempt == 3 || !List.of(429, 503).contains(answer.statusCode())) return answer;
                pause = answer.headers().firstValue("Retry-After")
                    .filter(value -> value.matches("\\d{1,9}")).map(Long::valueOf).orElse(pause);
            } catch (CompletionException error) {
                future.cancel(true);
                if (attempt == 3) throw new IllegalStateException("No answer: " + error.getCause());
            }
            SECONDS.sleep(Math.min(pause, TIMEOUT));
        }
    }

    /** The lines to print for a problem document (RFC 9457). */
    static String explain(int status, String body) {
        var problem = PROBLEM.matcher(body);
        if (!problem.find())
            return "Status " + status + ", but not from the service: is " + URL + " right?";
        var lines = new StringBuilder()
            .append(status + " " + plain(problem.group(1)) + ": " + plain(problem.group(2)));
        if (status == 401) lines.append("\nThe service does not accept the key in IRIS_API_KEY.");
        ERROR.matcher(body).results().forEach(error -> {
            lines.append("\n  ");
            if (error.group(1) != null) lines.append("row " + error.group(1) + ": ");
            if (error.group(2) != null) lines.append(plain(error.group(2)) + ": ");
            lines.append(plain(error.group(3)));
        });
        return lines.toString();
    }

    /** Prints label and confidence of each row. */
    static void predict(String body) throws InterruptedException {
        var id = UUID.randomUUID().toString();
        try {
            var answer = ask(body, id);
            if (answer.statusCode() != 200 || !answer.body().contains("\"model_version\":"))
                throw new IllegalStateException(explain(answer.statusCode(), answer.body()));
            PREDICTION.matcher(answer.body()).results().forEach(row -> System.out.printf(
                Locale.ROOT, "%s %.4f%n", plain(row.group(1)), Double.valueOf(row.group(2))));
        } catch (IllegalStateException error) {
            throw new IllegalStateException(error.getMessage() + "\nrequest id " + id);
        }
    }

    static String plain(String text) {
        return text.replace("\\\"", "\"").replace("\\\\", "\\");
    }

    static String env(String name, String fallback) {
        return System.getenv().getOrDefault(name, fallback);
    }

    public static void main(String[] args) throws InterruptedException {
        try {
            if (KEY.isEmpty()) throw new IllegalStateException("Set IRIS_API_KEY.");
            var bodies = args.length > 0
                ? List.of(Files.readString(Path.of(args[0])))
                : List.of(ONE, "[" + ONE + ", " + TWO + "]");
            for (var body : bodies) predict(body);
        } catch (IOException error) {
            System.err.println("Can't read " + error.getMessage());
            System.exit(1);
        } catch (IllegalStateException error) {
            System.err.println(error.getMessage());
            System.exit(1);
        }
    }
}
