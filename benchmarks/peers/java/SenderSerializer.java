import java.io.IOException;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.base.TypeSerializerSingleton;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** A sender's state as Flink keeps it: fixed fields, no reflection. */
public final class SenderSerializer extends TypeSerializerSingleton<Job.Sender> {
    private static final long serialVersionUID = 1L;

    @Override
    public boolean isImmutableType() {
        return false;
    }

    @Override
    public Job.Sender createInstance() {
        return new Job.Sender(0);
    }

    @Override
    public Job.Sender copy(Job.Sender from) {
        Job.Sender to = new Job.Sender(0);
        to.windowMs = from.windowMs;
        to.count = from.count;
        to.decided = from.decided;
        to.windows = from.windows;
        to.mean = from.mean;
        to.square = from.square;
        return to;
    }

    @Override
    public Job.Sender copy(Job.Sender from, Job.Sender reuse) {
        return copy(from);
    }

    @Override
    public int getLength() {
        return Job.Sender.SIZE;
    }

    @Override
    public void serialize(Job.Sender sender, DataOutputView out) throws IOException {
        out.writeLong(sender.windowMs);
        out.writeLong(sender.count);
        out.writeBoolean(sender.decided);
        out.writeInt(sender.windows);
        out.writeDouble(sender.mean);
        out.writeDouble(sender.square);
    }

    @Override
    public Job.Sender deserialize(DataInputView in) throws IOException {
        Job.Sender sender = new Job.Sender(0);
        sender.windowMs = in.readLong();
        sender.count = in.readLong();
        sender.decided = in.readBoolean();
        sender.windows = in.readInt();
        sender.mean = in.readDouble();
        sender.square = in.readDouble();
        return sender;
    }

    @Override
    public Job.Sender deserialize(Job.Sender reuse, DataInputView in) throws IOException {
        return deserialize(in);
    }

    @Override
    public void copy(DataInputView in, DataOutputView out) throws IOException {
        out.write(in, SIZE);
    }

    private static final int SIZE = Job.Sender.SIZE;

    @Override
    public TypeSerializerSnapshot<Job.Sender> snapshotConfiguration() {
        return new Snapshot();
    }

    /** Declares that the format never changed. */
    public static final class Snapshot extends SimpleTypeSerializerSnapshot<Job.Sender> {
        public Snapshot() {
            super(SenderSerializer::new);
        }
    }
}
