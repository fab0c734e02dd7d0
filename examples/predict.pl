# Predicts one flower, then a batch, or the rows in FILE: perl predict.pl [FILE], with core modules.
use v5.14;
use warnings;
use HTTP::Tiny;
use JSON::PP;

my $url     = ($ENV{IRIS_URL} || 'http://127.0.0.1:8000') =~ s{/*$}{/v1/predict}r;
my $key     = $ENV{IRIS_API_KEY} || die "Set IRIS_API_KEY.\n";
my $seconds = $ENV{IRIS_TIMEOUT} || 10;
my $one = { sepal_length => 6.7, sepal_width => 3.0, petal_length => 5.2, petal_width => 2.3 };
my $two = { sepal_length => 6.0, sepal_width => 2.7, petal_length => 5.1, petal_width => 1.6 };

my $http = HTTP::Tiny->new(    # Reuses the connection.
    timeout         => $seconds,    # For the connection, and for each read after it.
    max_redirect    => 0,           # The key must not go to another host.
    verify_SSL      => 1,           # Not the default before version 0.083.
    default_headers => { 'X-API-Key' => $key, 'Content-Type' => 'application/json' },
);

# A prediction changes nothing, so its POST is safe to repeat: without an answer (599), and after 429
# and 503, once the time in Retry-After has passed. Any other answer is final.
sub ask {
    my ($body, $id) = @_;
    local $SIG{ALRM} = sub { die "Timed out: no whole answer in $seconds s\n" };
    for my $attempt (1 .. 3) {
        alarm $seconds;
        my $response = $http->post($url, { content => $body, headers => { 'X-Request-ID' => $id } });
        alarm 0;
        return $response if $attempt == 3 || $response->{status} !~ /^(?:429|503|599)$/;
        my $retry_after = $response->{headers}{'retry-after'} // '';
        my $pause       = $retry_after =~ /^\d+$/ ? $retry_after : $attempt;
        sleep($pause < $seconds ? $pause : $seconds);
    }
}

# The lines to print for a problem document (RFC 9457).
sub explain {
    my ($status, $problem) = @_;
    return "Status $status, but not from the service: is $url right?" unless $problem->{title};
    my @lines = "$status $problem->{title}: $problem->{detail}";
    push @lines, 'The service does not accept the key in IRIS_API_KEY.' if $status == 401;
    for my $error (@{ $problem->{errors} // [] }) {
        my $row = defined $error->{row} ? "row $error->{row}" : undef;
        push @lines, '  ' . join ': ', grep { defined } $row, @$error{qw(field message)};
    }
    return join "\n", @lines;
}

# Prints label and confidence of each row. An error ends the program.
sub predict {
    my ($body) = @_;
    my $id       = join '', map { sprintf '%02x', rand 256 } 1 .. 16;
    my $response = ask($body, $id);
    die "No answer: $response->{content}request id $id\n" if $response->{status} == 599;
    my $answer = eval { decode_json($response->{content}) };    # Fails on the error page of a proxy.
    $answer = {} if ref $answer ne 'HASH';
    die explain($response->{status}, $answer), "\nrequest id $id\n"
        unless $response->{status} == 200 && $answer->{model_version};
    printf "%s %.4f\n", @$_{qw(prediction confidence)} for @{ $answer->{predictions} // [$answer] };
}

binmode $_, ':encoding(UTF-8)' for *STDOUT, *STDERR;
if (@ARGV) {
    open my $file, '<:raw', $ARGV[0] or die "$ARGV[0]: $!\n";
    predict(do { local $/; <$file> });
}
else {
    predict(encode_json($_)) for $one, [$one, $two];
}
