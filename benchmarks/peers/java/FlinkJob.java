import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Stream;
import org.apache.flink.api.common.JobStatus;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeHint;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.core.execution.SavepointFormatType;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;

/**
 * Apache Flink, DataStream API, a cluster within this process: source, keyBy, a process function with one value state, sink.
 * Objects are reused, records are tuples and the state has fixed fields (Flink's fastest serializers); checkpoints go to disk.
 * It ends with a savepoint, so that all decisions are sent, and starts from the savepoint in its folder.
 */
public final class FlinkJob {
    private static final TypeInformation<Tuple3<String, Long, Integer>> EVENT = TypeInformation.of(new TypeHint<>() {});
    private static final TypeInformation<Tuple2<String, byte[]>> DECISION = TypeInformation.of(new TypeHint<>() {});

    private FlinkJob() {}

    static final class Reading implements KafkaRecordDeserializationSchema<Tuple3<String, Long, Integer>> {
        private transient long[] event;

        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Tuple3<String, Long, Integer>> out)
            throws IOException {
            if (event == null) {
                event = new long[2];
            }
            Job.read(record.value(), event);
            out.collect(Tuple3.of(new String(record.key(), StandardCharsets.ISO_8859_1), event[0], (int) event[1]));
        }

        @Override
        public TypeInformation<Tuple3<String, Long, Integer>> getProducedType() {
            return EVENT;
        }
    }

    static final class Writing implements KafkaRecordSerializationSchema<Tuple2<String, byte[]>> {
        private final String topic;

        Writing(String topic) {
            this.topic = topic;
        }

        @Override
        public ProducerRecord<byte[], byte[]> serialize(Tuple2<String, byte[]> decision, KafkaSinkContext context, Long ts) {
            return new ProducerRecord<>(topic, decision.f0.getBytes(StandardCharsets.ISO_8859_1), decision.f1);
        }
    }

    static final class Judge extends KeyedProcessFunction<String, Tuple3<String, Long, Integer>, Tuple2<String, byte[]>> {
        private transient ValueState<Job.Sender> senders;
        private transient Job.Tally tally;

        @Override
        public void open(OpenContext context) {
            senders = getRuntimeContext().getState(new ValueStateDescriptor<>("sender", new SenderSerializer()));
            tally = new Job.Tally();
        }

        @Override
        public void processElement(Tuple3<String, Long, Integer> event, Context context, Collector<Tuple2<String, byte[]>> out)
            throws IOException {
            Job.Sender sender = senders.value();
            if (sender == null) {
                sender = new Job.Sender(event.f1);
                tally.keys++;
            }
            long count = sender.take(event.f1, event.f2, tally);
            senders.update(sender);
            if (count != 0) {
                out.collect(Tuple2.of(event.f0, Job.decision(event.f0, count, event.f1)));
            }
            tally.add();
        }
    }

    private static Configuration configuration(Map<String, String> chosen, Path folder) throws IOException {
        Configuration found = new Configuration();
        found.setString("state.backend.type", chosen.get("store").equals("memory") ? "hashmap" : "rocksdb");
        found.setString("execution.checkpointing.interval", chosen.get("checkpoint-ms") + "ms");
        found.setString("execution.checkpointing.incremental", "true");
        found.setString("execution.checkpointing.storage", "filesystem");
        found.setString("execution.checkpointing.dir", folder.resolve("checkpoints").toUri().toString());
        found.setString("state.backend.rocksdb.localdir", folder.resolve("rocksdb").toString());
        found.setString("execution.buffer-timeout.interval", "10ms");
        found.setString("pipeline.object-reuse", "true");
        found.setString("taskmanager.memory.managed.size", "512m");
        found.setString("rest.bind-port", "0");
        Path savepoints = folder.resolve("savepoints");
        if (Files.isDirectory(savepoints)) {
            try (Stream<Path> kept = Files.list(savepoints)) {
                kept.findFirst().ifPresent(path -> found.setString("execution.state-recovery.path", path.toUri().toString()));
            }
        }
        return found;
    }

    private static KafkaSource<Tuple3<String, Long, Integer>> source(Map<String, String> chosen) {
        Properties more = new Properties();
        more.put("max.partition.fetch.bytes", String.valueOf(4 << 20));
        more.put("max.poll.records", "10000");
        return KafkaSource.<Tuple3<String, Long, Integer>>builder()
            .setBootstrapServers(chosen.get("bootstrap"))
            .setTopics(chosen.get("topic"))
            .setGroupId(chosen.get("group"))
            .setStartingOffsets(OffsetsInitializer.earliest())
            .setDeserializer(new Reading())
            .setProperties(more)
            .build();
    }

    private static KafkaSink<Tuple2<String, byte[]>> sink(Map<String, String> chosen) {
        Properties more = new Properties();
        more.put("linger.ms", "5");
        return KafkaSink.<Tuple2<String, byte[]>>builder()
            .setBootstrapServers(chosen.get("bootstrap"))
            .setKafkaProducerConfig(more)
            .setRecordSerializer(new Writing(chosen.get("decisions")))
            .setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE)
            .build();
    }

    public static void main(String[] words) throws Exception {
        Map<String, String> chosen = Job.options(words);
        Path folder = Path.of(chosen.get("folder"));
        int threads = Integer.parseInt(chosen.get("threads"));
        StreamExecutionEnvironment environment =
            StreamExecutionEnvironment.createLocalEnvironment(threads, configuration(chosen, folder));
        environment.fromSource(source(chosen), WatermarkStrategy.noWatermarks(), "events", EVENT)
            .keyBy(event -> event.f0, Types.STRING)
            .process(new Judge(), DECISION)
            .sinkTo(sink(chosen));
        JobClient job = environment.executeAsync();
        while (job.getJobStatus().get() != JobStatus.RUNNING) {
            Thread.sleep(20);
        }
        Job.sayReady();
        String report = Job.awaited(Long.parseLong(chosen.get("events")));
        job.stopWithSavepoint(false, folder.resolve("savepoints").toUri().toString(), SavepointFormatType.NATIVE).get();
        System.err.println(report);
        System.exit(0);
    }
}
