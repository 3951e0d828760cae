import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams, Processor API: one store with a changelog, in memory or in RocksDB, keys as raw bytes.
 * At least once, which is cheaper than exactly once.
 */
public final class StreamsJob {
    private static final long CACHE_OCTETS = 256L << 20;

    private StreamsJob() {}

    static final class Judge implements Processor<byte[], byte[], byte[], byte[]> {
        private final Job.Tally tally = new Job.Tally();
        private final long[] event = new long[2];
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<byte[], Job.Sender> senders;

        @Override
        public void init(ProcessorContext<byte[], byte[]> given) {
            context = given;
            senders = given.getStateStore("senders");
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            try {
                Job.read(record.value(), event);
            } catch (IOException error) {
                throw new IllegalStateException(error);
            }
            byte[] key = record.key();
            Job.Sender sender = senders.get(key);
            if (sender == null) {
                sender = new Job.Sender(event[0]);
                tally.keys++;
            }
            long count = sender.take(event[0], (int) event[1], tally);
            senders.put(key, sender);
            if (count != 0) {
                context.forward(record.withValue(Job.decision(new String(key, StandardCharsets.ISO_8859_1), count, event[0])));
            }
            tally.add();
        }
    }

    private static Serde<Job.Sender> serde() {
        Serializer<Job.Sender> to = (topic, sender) -> sender == null ? null : sender.bytes();
        Deserializer<Job.Sender> from = (topic, bytes) -> bytes == null ? null : new Job.Sender(bytes);
        return Serdes.serdeFrom(to, from);
    }

    /** In memory, a cache costs more than the changelog's records; before RocksDB it saves reads and writes (measured). */
    private static StoreBuilder<KeyValueStore<byte[], Job.Sender>> store(boolean memory) {
        if (memory) {
            return Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore("senders"), Serdes.ByteArray(), serde());
        }
        var supplier = Stores.persistentKeyValueStore("senders");
        return Stores.keyValueStoreBuilder(supplier, Serdes.ByteArray(), serde()).withCachingEnabled();
    }

    private static Topology topology(Map<String, String> chosen) {
        Topology topology = new Topology();
        topology.addSource("events", Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(), chosen.get("topic"));
        topology.addProcessor("judge", Judge::new, "events");
        topology.addStateStore(store(chosen.get("store").equals("memory")), "judge");
        topology.addSink("decisions", chosen.get("decisions"), Serdes.ByteArray().serializer(), Serdes.ByteArray().serializer(), "judge");
        return topology;
    }

    private static Properties properties(Map<String, String> chosen) {
        Properties found = new Properties();
        found.put(StreamsConfig.APPLICATION_ID_CONFIG, chosen.get("group"));
        found.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, chosen.get("bootstrap"));
        found.put(StreamsConfig.STATE_DIR_CONFIG, chosen.get("folder") + "/state-" + System.nanoTime());
        found.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, chosen.get("threads"));
        found.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, chosen.get("checkpoint-ms"));
        found.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, CACHE_OCTETS);
        found.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        found.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
        found.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 << 20);
        found.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), 6_000);
        found.put(StreamsConfig.consumerPrefix("internal.leave.group.on.close"), true);  // or a restart waits for the session
        found.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        found.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 << 10);
        found.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 5);
        found.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 128L << 20);
        return found;
    }

    public static void main(String[] words) throws InterruptedException {
        Map<String, String> chosen = Job.options(words);
        KafkaStreams streams = new KafkaStreams(topology(chosen), properties(chosen));
        streams.setStateListener((to, from) -> {
            if (to == KafkaStreams.State.RUNNING) {
                Job.sayReady();
            }
        });
        streams.start();
        String report = Job.awaited(Long.parseLong(chosen.get("events")));
        streams.close();
        System.err.println(report);
    }
}
