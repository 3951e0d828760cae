import java.io.IOException;
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
import org.apache.kafka.streams.state.KeyValueBytesStoreSupplier;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams, Processor API: one store with a changelog, in memory or in RocksDB, a record cache before it so that the
 * changelog gets a sender once a commit and not once an event. At least once, which is cheaper than exactly once.
 */
public final class StreamsJob {
    private static final long CACHE_OCTETS = 256L << 20;

    private StreamsJob() {}

    static final class Judge implements Processor<String, byte[], String, byte[]> {
        private final Job.Tally tally = new Job.Tally();
        private final long[] event = new long[2];
        private ProcessorContext<String, byte[]> context;
        private KeyValueStore<String, Job.Sender> senders;

        @Override
        public void init(ProcessorContext<String, byte[]> given) {
            context = given;
            senders = given.getStateStore("senders");
        }

        @Override
        public void process(Record<String, byte[]> record) {
            try {
                Job.read(record.value(), event);
            } catch (IOException error) {
                throw new IllegalStateException(error);
            }
            String key = record.key();
            Job.Sender sender = senders.get(key);
            if (sender == null) {
                sender = new Job.Sender(event[0]);
                tally.keys++;
            }
            long count = sender.take(event[0], (int) event[1], tally);
            senders.put(key, sender);
            if (count != 0) {
                context.forward(record.withValue(Job.decision(key, count, event[0])));
            }
            tally.add();
        }
    }

    private static Serde<Job.Sender> serde() {
        Serializer<Job.Sender> to = (topic, sender) -> sender == null ? null : sender.octets();
        Deserializer<Job.Sender> from = (topic, octets) -> octets == null ? null : new Job.Sender(octets);
        return Serdes.serdeFrom(to, from);
    }

    private static Topology topology(Map<String, String> chosen) {
        KeyValueBytesStoreSupplier supplier = chosen.get("store").equals("memory")
            ? Stores.inMemoryKeyValueStore("senders")
            : Stores.persistentKeyValueStore("senders");
        Topology topology = new Topology();
        topology.addSource("events", Serdes.String().deserializer(), Serdes.ByteArray().deserializer(), chosen.get("topic"));
        topology.addProcessor("judge", Judge::new, "events");
        topology.addStateStore(Stores.keyValueStoreBuilder(supplier, Serdes.String(), serde()).withCachingEnabled(), "judge");
        topology.addSink("decisions", chosen.get("decisions"), Serdes.String().serializer(), Serdes.ByteArray().serializer(), "judge");
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
        String told = Job.awaited(Long.parseLong(chosen.get("events")));
        streams.close();
        System.err.println(told);
    }
}
