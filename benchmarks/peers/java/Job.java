import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicLong;

/**
 * The shared part of the contenders in Java: the job of contest/oracle.py, the command line, and the report at the end, whose
 * lines benchmarks/peers/job.py describes. Events are read with Jackson's streaming parser, which builds no tree.
 */
final class Job {
    static final long WINDOW_MS = 60_000;
    static final double SIGMAS = 4.0;
    static final int FLOOR = 10, LEAST_WINDOWS = 3;
    private static final JsonFactory JSON = new JsonFactory();
    private static final List<Tally> TALLIES = new CopyOnWriteArrayList<>();

    private Job() {}

    /** The state of one sender. */
    static final class Sender {
        static final int SIZE = 37;
        long windowMs;
        long count;
        boolean decided;
        int windows;
        double mean;
        double square;

        Sender(long ts) {
            windowMs = ts - ts % WINDOW_MS;
        }

        Sender(byte[] bytes) {
            ByteBuffer in = ByteBuffer.wrap(bytes);
            windowMs = in.getLong();
            count = in.getLong();
            decided = in.get() != 0;
            windows = in.getInt();
            mean = in.getDouble();
            square = in.getDouble();
        }

        byte[] bytes() {
            ByteBuffer out = ByteBuffer.allocate(SIZE);
            out.putLong(windowMs).putLong(count).put((byte) (decided ? 1 : 0)).putInt(windows).putDouble(mean).putDouble(square);
            return out.array();
        }

        /** Apply an event; returns the count of a decision, 0 without one. */
        long take(long ts, int messages, Tally tally) {
            long window = ts - ts % WINDOW_MS;
            if (window != windowMs) {
                if (window < windowMs) {
                    tally.late++;
                    return 0;
                }
                close(window, tally);
            }
            count += messages;
            if (count > FLOOR && windows >= LEAST_WINDOWS && !decided) {
                double spread = Math.sqrt(Math.max(0.0, square - mean * mean));
                if (count > mean + SIGMAS * spread + FLOOR) {
                    decided = true;
                    tally.decisions++;
                    return count;
                }
            }
            return 0;
        }

        private void close(long window, Tally tally) {
            tally.windows++;
            tally.squares += count * count;
            double x = count;
            mean = windows == 0 ? x : 0.125 * x + 0.875 * mean;
            square = windows == 0 ? x * x : 0.125 * (x * x) + 0.875 * square;
            windows++;
            windowMs = window;
            count = 0;
            decided = false;
        }
    }

    /** Counts of one task; one thread writes them, the number of events last. */
    static final class Tally {
        long late, keys, windows, squares, decisions;
        private long seen;
        private final AtomicLong events = new AtomicLong();

        Tally() {
            TALLIES.add(this);
        }

        /** Count an event whose consequences are all counted. */
        void add() {
            events.lazySet(++seen);
        }
    }

    /** Read an event's time and messages into index 0 and 1. */
    static void read(byte[] json, long[] event) throws IOException {
        event[0] = -1;
        event[1] = 1;
        try (JsonParser parser = JSON.createParser(json)) {
            parser.nextToken();
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                String name = parser.currentName();
                parser.nextToken();
                if (name.equals("ts")) {
                    event[0] = parser.getLongValue();
                } else if (name.equals("messages")) {
                    event[1] = parser.getIntValue();
                } else {
                    parser.skipChildren();
                }
            }
        }
    }

    static byte[] decision(String key, long count, long ts) {
        String text = "{\"key\":\"" + key + "\",\"window_ms\":" + (ts - ts % WINDOW_MS) + ",\"messages\":" + count + ",\"ts\":" + ts + "}";
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static Map<String, String> options(String[] words) {
        Map<String, String> found = new HashMap<>();
        for (int i = 0; i + 1 < words.length; i += 2) {
            found.put(words[i].substring(2), words[i + 1]);
        }
        return found;
    }

    static void sayReady() {
        System.err.println("{\"contest\": \"ready\"}");
    }

    private static long events() {
        long sum = 0;
        for (Tally tally : TALLIES) {
            sum += tally.events.get();
        }
        return sum;
    }

    /** Wait until so many events are applied; returns the report. */
    static String awaited(long wanted) throws InterruptedException {
        var process = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        double first = 0, half = 0, firstCpu = 0;
        for (long seen = events(); seen < wanted; seen = events()) {
            double now = System.currentTimeMillis() / 1000.0;
            if (seen > 0 && first == 0) {
                first = now;
                firstCpu = process.getProcessCpuTime() / 1e9;
            }
            if (seen >= wanted / 2 && half == 0) {
                half = now;
            }
            Thread.sleep(2);
        }
        double last = System.currentTimeMillis() / 1000.0, cpu = process.getProcessCpuTime() / 1e9;
        first = first == 0 ? last : first;
        half = half == 0 ? first : half;
        long late = 0, keys = 0, windows = 0, squares = 0, decisions = 0;
        for (Tally tally : TALLIES) {
            late += tally.late;
            keys += tally.keys;
            windows += tally.windows;
            squares += tally.squares;
            decisions += tally.decisions;
        }
        return String.format(
            java.util.Locale.ROOT,
            "{\"contest\": \"done\", \"events\": %d, \"late\": %d, \"keys\": %d, \"windows\": %d, \"squares\": %d, "
                + "\"decisions\": %d, \"first_s\": %.3f, \"half_s\": %.3f, \"last_s\": %.3f, \"cpu_s\": %.3f}",
            events(), late, keys, windows, squares, decisions, first, half, last, cpu - firstCpu);
    }
}
