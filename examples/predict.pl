# One prediction and then a batch, or what FILE has: perl predict.pl [FILE], with core modules.
use v5.14;
use warnings;
use HTTP::Tiny;
use JSON::PP;

my $url     = ($ENV{IRIS_URL} || 'http://127.0.0.1:8000') =~ s{/*$}{/v1/predict}r;
my $key     = $ENV{IRIS_API_KEY} || die "Set IRIS_API_KEY.\n";
my $seconds = $ENV{IRIS_TIMEOUT} || 10;
my $one = { sepal_length => 6.7, sepal_width => 3.0, petal_length => 5.2, petal_width => 2.3 };
my $two = { sepal_length => 6.0, sepal_width => 2.7, petal_length => 5.1, petal_width => 1.6 };

my $http = HTTP::Tiny->new(    # Keeps the connection between requests.
    timeout         => $seconds,    # To connect, and for each wait after it.
    max_redirect    => 0,           # The key is for this host alone.
    verify_SSL      => 1,           # Not the default before 0.083.
    default_headers => { 'X-API-Key' => $key, 'Content-Type' => 'application/json' },
);

# A prediction changes nothing, so a POST may be repeated: when no answer came (599), and after 429
# and 503, as late as Retry-After asks. Any other answer is final.
sub ask {
    my ($body, $id) = @_;
    local $SIG{ALRM} = sub { die "Timed out: no whole answer in $seconds s\n" };
    for my $attempt (1 .. 3) {
        alarm $seconds;
        my $answer = $http->post($url, { content => $body, headers => { 'X-Request-ID' => $id } });
        alarm 0;
        return $answer if $attempt == 3 || $answer->{status} !~ /^(?:429|503|599)$/;
        my $asked = $answer->{headers}{'retry-after'} // '';
        my $pause = $asked =~ /^\d+$/ ? $asked : $attempt;
        sleep($pause < $seconds ? $pause : $seconds);
    }
}

# A problem document (RFC 9457) in words.
sub explain {
    my ($status, $told) = @_;
    return "Status $status, but not from the service: is $url right?" unless $told->{title};
    my @lines = "$status $told->{title}: $told->{detail}";
    push @lines, 'The service does not accept the key in IRIS_API_KEY.' if $status == 401;
    for my $error (@{ $told->{errors} // [] }) {
        my $row = defined $error->{row} ? "row $error->{row}" : undef;
        push @lines, '  ' . join ': ', grep { defined } $row, @$error{qw(field message)};
    }
    return join "\n", @lines;
}

# Prints label and confidence of each row. What goes wrong ends the program.
sub predict {
    my ($body) = @_;
    my $id     = join '', map { sprintf '%02x', rand 256 } 1 .. 16;
    my $answer = ask($body, $id);
    die "No answer: $answer->{content}request id $id\n" if $answer->{status} == 599;
    my $told = eval { decode_json($answer->{content}) };    # Fails on the page of a proxy, say.
    $told = {} if ref $told ne 'HASH';
    die explain($answer->{status}, $told), "\nrequest id $id\n"
        unless $answer->{status} == 200 && $told->{model_version};
    printf "%s %.4f\n", @$_{qw(prediction confidence)} for @{ $told->{predictions} // [$told] };
}

binmode $_, ':encoding(UTF-8)' for *STDOUT, *STDERR;
if (@ARGV) {
    open my $file, '<:raw', $ARGV[0] or die "$ARGV[0]: $!\n";
    predict(do { local $/; <$file> });
}
else {
    predict(encode_json($_)) for $one, [$one, $two];
}
